#!lua flags=allow-oom
-- A person moves a job: its status, and its place, at rest or in a queue. Refused where it is not as it was looked at.
--
-- KEYS  record, payload, frozen, attempts, in-progress, blob, quarantine queue, queues of the streams
-- ARGV  wake channel, channel of what has moved, what stands before the status in the key of an index and before the hash
--       in that of a recipient's, how long the latter is kept (ms), number of recipients, their hashes, job id;
--       number of strings that follow, field, value it has to have ("" where it has none), ...;
--       number of strings that follow, field, new value, ...;
--       number in KEYS of the queue in which it then stands, or "" where it rests; due time (ms) or "" for now; arq's blob;
--       retention of record and of payload (ms, "" unless it rests); "1" for a job that is only moved, else "0"
-- Returns "done", "changed" where it is not as it was looked at, or "empty" where it cannot be queued, for its content
-- is gone.
--
-- What a run knows of the job is compared as a whole, so this settles the race with the journal: once a final dot may be
-- written, the record has its mark. A run that is not so far loses its lease here. Runs under OOM: a mail that must not go
-- must not go for want of memory.

local a = 1
local function arg() a = a + 1; return ARGV[a - 1] end
local record, payload, in_progress, blob = KEYS[1], KEYS[2], KEYS[5], KEYS[6]
local wake, channel, index, recipient, recipient_ms = arg(), arg(), arg(), arg(), tonumber(arg())
local hashes = {}
for h = 1, tonumber(arg()) do hashes[h] = arg() end
local id = arg()

for _ = 1, tonumber(arg()) / 2 do
    local field, value = arg(), arg()
    if (redis.call('HGET', record, field) or '') ~= value then return 'changed' end
end
local strings = tonumber(arg())
local fields = {}
for s = 1, strings do fields[s] = arg() end
local queue, due, blob_value, record_ms, payload_ms = tonumber(arg()), tonumber(arg()), arg(), arg(), arg()
local is_moved = arg() == '1'
if queue and redis.call('EXISTS', payload) == 0 then return 'empty' end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local was = redis.call('HMGET', record, 'status', 'created_at', 'run')
if was[3] and is_moved then -- its worker has died: a crash, as the next claim would find
    redis.call('HINCRBY', record, 'crashes', 1)
    redis.call('HSET', record, 'blamed', was[3])
end
redis.call('HSET', record, unpack(fields))
redis.call('HDEL', record, 'run')
redis.call('ZREM', index .. was[1], id)
redis.call('ZADD', index .. redis.call('HGET', record, 'status'), was[2], id)
redis.call('DEL', in_progress)
for k = 7, #KEYS do redis.call('ZREM', KEYS[k], id) end
if queue then
    for k = 1, 4 do redis.call('PERSIST', KEYS[k]) end
    redis.call('SET', blob, blob_value)
    redis.call('ZADD', KEYS[queue], due or now, id)
    redis.call('PUBLISH', wake, now)
    for _, hash in ipairs(hashes) do
        redis.call('ZADD', recipient .. hash, was[2], id)
        redis.call('PEXPIRE', recipient .. hash, math.max(0, (due or now) - now) + recipient_ms, 'NX')
        redis.call('PEXPIRE', recipient .. hash, math.max(0, (due or now) - now) + recipient_ms, 'GT')
    end
else
    redis.call('DEL', blob)
    redis.call('PEXPIRE', record, record_ms)
    redis.call('PEXPIRE', KEYS[4], record_ms)
    redis.call('PEXPIRE', payload, payload_ms)
    redis.call('PEXPIRE', KEYS[3], payload_ms)
end
redis.call('PUBLISH', channel, id)
return 'done'
