#!lua flags=allow-oom
-- Takes jobs whose records are gone out of an index.
--
-- KEYS  index
-- ARGV  what stands before the id in the key of a record, rank of the first job that is looked at, how many are
-- Returns {how many were looked at, how many of these were taken out}.

local seen, gone = redis.call('ZRANGE', KEYS[1], ARGV[2], ARGV[2] + ARGV[3] - 1), 0
for _, id in ipairs(seen) do
    if redis.call('EXISTS', ARGV[1] .. id) == 0 then gone = gone + redis.call('ZREM', KEYS[1], id) end
end
return {#seen, gone}
