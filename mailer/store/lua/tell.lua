#!lua flags=allow-oom
-- A worker tells which relays it is set up with. What nobody has told for long is forgotten.
--
-- KEYS  relays
-- ARGV  how long it is kept (ms); then descriptions (JSON)

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for n = 2, #ARGV do redis.call('ZADD', KEYS[1], now, ARGV[n]) end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[1])
