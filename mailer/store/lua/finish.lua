#!lua flags=allow-oom
-- Records how runs ended, moves the jobs' statuses, and gives each its place: back in its queue, or at rest.
--
-- KEYS  quarantine queue; then for each run: record, payload, frozen, attempts, in-progress, blob, queue it was claimed
--       from, queue of its stream
-- ARGV  attempts kept; then for each run: job id, run, new status, statuses it may be reached from ("a,b,"),
--       "1" if it counts though the lease was lost else "0", number of attempts that follow, attempts (JSON), due time
--       of the next attempt (ms) or "" where the job rests, retention of record and of payload (ms, "" unless it
--       rests), number of strings that follow, field, value, ...
-- Returns for each run {"finished"}, {"gone"}, or {"stale", status} when the job is another run's by now.
--
-- A repeated call (its reply was lost) finds its own run ended, and changes nothing. Runs under OOM: a mail that was
-- sent must never be forgotten for want of memory.

local a = 1
local function arg() a = a + 1; return ARGV[a - 1] end
local attempts_kept = tonumber(arg())

local function finish(k)
    local record, payload, frozen, attempts = KEYS[k], KEYS[k + 1], KEYS[k + 2], KEYS[k + 3]
    local in_progress, blob, claimed_from, queue = KEYS[k + 4], KEYS[k + 5], KEYS[k + 6], KEYS[k + 7]
    local id, run, status, from, counts = arg(), arg(), arg(), arg(), arg()
    local made = {}
    for i = 1, tonumber(arg()) do made[i] = arg() end
    local again = arg()
    local record_ms, payload_ms, strings = arg(), arg(), tonumber(arg())
    local fields = {}
    for i = 1, strings do fields[i] = arg() end

    local now = redis.call('HMGET', record, 'status', 'run', 'ended', 'attempts')
    if not now[1] then return {'gone'} end
    if now[3] == run then return {'finished'} end
    if now[2] ~= run and counts ~= '1' then return {'stale', now[1]} end
    if not string.find(from, now[1] .. ',', 1, true) then return {'stale', now[1]} end

    redis.call('HSET', record, 'status', status, 'ended', run, unpack(fields))
    if tonumber(redis.call('HGET', record, 'attempts')) < tonumber(now[4]) then
        redis.call('HSET', record, 'attempts', now[4])
    end
    redis.call('HDEL', record, 'run', 'journal', 'crashes', 'blamed')
    redis.call('DEL', in_progress)
    redis.call('ZREM', claimed_from, id)
    redis.call('ZREM', KEYS[1], id) -- where it was put since, if the lease was lost
    if #made > 0 then
        redis.call('RPUSH', attempts, unpack(made))
        redis.call('LTRIM', attempts, -attempts_kept, -1)
    end
    if again ~= '' then
        redis.call('ZADD', queue, again, id)
        return {'finished'}
    end
    redis.call('ZREM', queue, id)
    redis.call('DEL', blob)
    if status == 'sent' then redis.call('DEL', frozen) end
    redis.call('PEXPIRE', record, record_ms)
    redis.call('PEXPIRE', attempts, record_ms)
    redis.call('PEXPIRE', payload, payload_ms)
    redis.call('PEXPIRE', frozen, payload_ms)
    return {'finished'}
end

local verdicts = {}
for n = 1, (#KEYS - 1) / 8 do verdicts[n] = finish(8 * n - 6) end
return verdicts
