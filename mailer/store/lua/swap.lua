#!lua flags=allow-oom
-- Changes what all workers share about a relay, if it is still what the change was made from.
--
-- KEYS  state of the relay
-- ARGV  the state that it was made from (JSON), or "" for none; the new one (JSON); how long it is kept (ms), or "" for
--       good
-- Returns {1 if it is changed, else 0; the state it has now (JSON) or ""; the server's time (ms)}.
--
-- A repeated call (its reply was lost) finds its own state, and counts as done: no two changes write the same.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local state = redis.call('GET', KEYS[1]) or ''
if state == ARGV[2] then return {1, state, now} end
if state ~= ARGV[1] then return {0, state, now} end
if ARGV[3] == '' then
    redis.call('SET', KEYS[1], ARGV[2])
else
    redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
return {1, ARGV[2], now}
