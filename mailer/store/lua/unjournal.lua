#!lua flags=allow-oom
-- The relay answered the final dot, and did not take the mail: the mark that made it a doubt is taken back.
--
-- KEYS  record
-- ARGV  run, journal mark (JSON)
-- Returns 1 where the mark was this run's, else 0.
--
-- A repeated call finds nothing to do.

local known = redis.call('HMGET', KEYS[1], 'run', 'journal')
if known[1] ~= ARGV[1] or known[2] ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[1], 'journal')
return 1
