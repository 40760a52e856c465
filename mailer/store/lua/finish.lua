#!lua flags=allow-oom
-- Records how runs ended, moves the jobs' statuses, and gives each its place: back in its queue, or at rest.
--
-- KEYS  quarantine queue, queues of the streams; then for each run: record, payload, frozen, attempts, in-progress, blob, queue it was claimed
--       from, queue of its stream, claimed (what its worker holds)
-- ARGV  number of queues, attempts kept, channel of what has moved, what stands before the status in the key of an index and before the
--       hash in that of a recipient's, how long the latter is kept (ms); then for each run: job id, run, new status,
--       statuses it may be reached from ("a,b,"), "1" if it counts though the lease was lost else "0", number of
--       attempts that follow, attempts (packed), number of recipients it is not indexed for yet, their hashes, due time of
--       the next attempt (ms) or "" where the job rests, number of the attempt, retention of record and of payload (ms, "" unless it rests),
--       number of strings that follow, field, value ("" for none), ...
-- Returns for each run {"finished"}, {"gone"}, or {"stale", status} when the job is another run's by now.
--
-- A repeated call (its reply was lost) finds its own run ended, and changes nothing. Runs under OOM: a mail that was
-- sent must never be forgotten for want of memory.

local a = 1
local function arg() a = a + 1; return ARGV[a - 1] end
local queues, attempts_kept = tonumber(arg()), tonumber(arg())
local channel, index, recipient, recipient_ms = arg(), arg(), arg(), tonumber(arg())
local moved = {}

local function keep_in_index(id, from, to, created_at, hashes)
    if from ~= to then
        redis.call('ZREM', index .. from, id)
        redis.call('ZADD', index .. to, created_at, id)
    end
    for _, hash in ipairs(hashes) do
        redis.call('ZADD', recipient .. hash, created_at, id)
        redis.call('PEXPIRE', recipient .. hash, recipient_ms, 'NX')
        redis.call('PEXPIRE', recipient .. hash, recipient_ms, 'GT')
    end
end

local function finish(k)
    local record, payload, frozen, attempts = KEYS[k], KEYS[k + 1], KEYS[k + 2], KEYS[k + 3]
    local in_progress, blob, claimed_from, queue, claimed = unpack(KEYS, k + 4, k + 8)
    local id, run, status, from, counts = arg(), arg(), arg(), arg(), arg()
    local made, hashes = {}, {}
    for i = 1, tonumber(arg()) do made[i] = arg() end
    for i = 1, tonumber(arg()) do hashes[i] = arg() end
    local again, attempt = arg(), arg()
    local record_ms, payload_ms, strings = arg(), arg(), tonumber(arg())
    local fields, gone = {}, {}
    for _ = 1, strings / 2 do
        local field, value = arg(), arg()
        if value == '' then
            gone[#gone + 1] = field
        else
            fields[#fields + 1], fields[#fields + 2] = field, value
        end
    end

    local now = redis.call('HMGET', record, 'status', 'run', 'ended', 'attempts', 'created_at')
    if not now[1] then return {'gone'} end
    if now[3] == run then return {'finished'} end
    if now[2] ~= run and counts ~= '1' then return {'stale', now[1]} end
    if not string.find(from, now[1] .. ',', 1, true) then return {'stale', now[1]} end

    redis.call('HSET', record, 'status', status, 'ended', run, unpack(fields))
    if tonumber(attempt) < tonumber(now[4]) then redis.call('HSET', record, 'attempts', now[4]) end
    redis.call('HDEL', record, 'run', 'journal', 'crashes', 'blamed', unpack(gone))
    keep_in_index(id, now[1], status, now[5], hashes)
    moved[#moved + 1] = id
    redis.call('ZREM', claimed_from, id)
    if now[2] == run then redis.call('HDEL', claimed, id) end
    for q = 1, now[2] == run and 0 or queues do redis.call('ZREM', KEYS[q], id) end -- where it was put since
    if #made > 0 then
        local kept = redis.call('RPUSH', attempts, unpack(made))
        if kept > attempts_kept then redis.call('LTRIM', attempts, -attempts_kept, -1) end
    end
    if again ~= '' then
        redis.call('DEL', in_progress)
        redis.call('ZADD', queue, again, id)
        return {'finished'}
    end
    if queue ~= claimed_from then redis.call('ZREM', queue, id) end
    if status == 'sent' then
        redis.call('DEL', in_progress, blob, frozen)
    else
        redis.call('DEL', in_progress, blob)
        redis.call('PEXPIRE', frozen, payload_ms)
    end
    redis.call('PEXPIRE', record, record_ms)
    redis.call('PEXPIRE', attempts, record_ms)
    redis.call('PEXPIRE', payload, payload_ms)
    return {'finished'}
end

local verdicts = {}
for n = 1, (#KEYS - queues) / 9 do verdicts[n] = finish(queues + 9 * n - 8) end
if #moved > 0 then redis.call('PUBLISH', channel, table.concat(moved, ' ')) end
return verdicts
