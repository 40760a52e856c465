#!lua flags=allow-oom
-- Gives jobs back without an end: to the queue after a delay, or, for an entry that means nothing any more, to nobody.
--
-- KEYS  for each job: record, in-progress, blob, queue it was claimed from, claimed (what its worker holds)
-- ARGV  wake channel; then for each job: id, run, delay (ms) or "drop", "1" if no final dot was written, or the mail
--       was refused after it, else "0", what it waits for or ""
-- Returns the number of jobs that were this worker's to give back.
--
-- A run that lost its lease says here that its worker lives: the crash it was blamed for is taken back.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local given = 0
for n = 1, #KEYS / 5 do
    local record, in_progress, blob, queue, claimed = unpack(KEYS, 5 * n - 4, 5 * n)
    local id, run, delay, unsent, detail = unpack(ARGV, 5 * n - 3, 5 * n + 1)
    local known = redis.call('HMGET', record, 'run', 'blamed', 'crashes')
    if known[2] == run then
        redis.call('HSET', record, 'crashes', math.max(0, tonumber(known[3] or 0) - 1))
        redis.call('HDEL', record, 'blamed')
    end
    if known[1] == run or redis.call('GET', in_progress) == run then
        redis.call('HDEL', claimed, id)
        given = given + 1
        redis.call('DEL', in_progress)
        redis.call('HDEL', record, 'run')
        if unsent == '1' then redis.call('HDEL', record, 'journal') end
        if detail ~= '' then redis.call('HSET', record, 'detail', detail) end
        if delay == 'drop' then
            redis.call('ZREM', queue, id)
            redis.call('DEL', blob)
        else
            redis.call('ZADD', queue, 'XX', now + delay, id)
        end
    end
end
if given > 0 then redis.call('PUBLISH', ARGV[1], now) end
return given
