#!lua
-- Puts unfinished jobs that stand in no queue back into theirs, and jobs into the index of their status, where a version
-- that knows no index, or a restored server, left them elsewhere.
--
-- KEYS  quarantine queue, queues of the streams
-- ARGV  wake channel, what stands before the id in the keys of record and blob, before the status in the key of an index,
--       all statuses and those that are unfinished ("a,b,"), number of streams, their names in the order of KEYS; then for
--       each record looked at: id, blob
-- Returns the ids that were put back.
--
-- The keys of jobs are made here from their ids: no cluster.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local wake, record, blob, index, statuses = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local open, streams = ARGV[6], tonumber(ARGV[7])
local queue_of = {}
for s = 1, streams do queue_of[ARGV[7 + s]] = KEYS[1 + s] end

local function is_queued(id)
    for _, queue in ipairs(KEYS) do
        if redis.call('ZSCORE', queue, id) then return true end
    end
    return false
end

local function keep_in_index(id, status, created_at)
    if not status or not created_at then return end
    for other in string.gmatch(statuses, '[^,]+') do
        if other ~= status then redis.call('ZREM', index .. other, id) end
    end
    redis.call('ZADD', index .. status, created_at, id)
end

local put_back = {}
for a = 8 + streams, #ARGV, 2 do
    local id = ARGV[a]
    local known = redis.pcall('HMGET', record .. id, 'status', 'stream', 'next_attempt_at', 'due_at', 'created_at')
    keep_in_index(id, known[1], known[5])
    local queue = known[2] and queue_of[known[2]]
    if queue and string.find(open, (known[1] or '') .. ',', 1, true) and not is_queued(id) then
        redis.call('SET', blob .. id, ARGV[a + 1], 'NX')
        redis.call('ZADD', queue, tonumber(known[3] or '') or tonumber(known[4]) or now, id)
        put_back[#put_back + 1] = id
    end
end
if #put_back > 0 then redis.call('PUBLISH', wake, now) end
return put_back
