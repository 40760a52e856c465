#!lua flags=allow-oom
-- A person pauses a stream, or resumes it.
--
-- KEYS  streams that are paused
-- ARGV  wake channel, stream, "1" to pause it, "0" to resume it
--
-- Said again, it changes nothing. Runs under OOM: less work is what such a server needs.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[3] == '1' then
    redis.call('HSETNX', KEYS[1], ARGV[2], now)
elseif redis.call('HDEL', KEYS[1], ARGV[2]) == 1 then
    redis.call('PUBLISH', ARGV[1], now)
end
