#!lua flags=allow-oom
-- The relay answered the final dot, and did not take the mail: the mark that made it a doubt is taken back, and the run
-- is held for one lease again.
--
-- KEYS  record, in-progress, queue it was claimed from
-- ARGV  job id, run, journal mark (packed), lease (ms)
-- Returns 1 where the mark was this run's, else 0.
--
-- A repeated call finds nothing to do.

local id, run, mark, lease = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local known = redis.call('HMGET', KEYS[1], 'run', 'journal')
if known[1] ~= run or known[2] ~= mark then return 0 end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HDEL', KEYS[1], 'journal')
redis.call('SET', KEYS[2], run, 'PX', lease)
redis.call('ZADD', KEYS[3], 'XX', now + lease + 1, id)
return 1
