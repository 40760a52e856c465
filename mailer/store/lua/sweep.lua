#!lua flags=allow-oom
-- Takes jobs whose records are gone out of indexes.
--
-- KEYS  indexes
-- ARGV  what stands before the id in the key of a record, how many of the oldest jobs of each index are looked at, how many
--       in all
-- Returns how many were taken out.

local record, most, left, gone = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), 0
for _, index in ipairs(KEYS) do
    if left <= 0 then break end
    local oldest = redis.call('ZRANGE', index, 0, math.min(most, left) - 1)
    left = left - #oldest
    for _, id in ipairs(oldest) do
        if redis.call('EXISTS', record .. id) == 0 then gone = gone + redis.call('ZREM', index, id) end
    end
end
return gone
