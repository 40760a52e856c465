#!lua
-- Accepts requests. Each request is all or none, and gets a verdict of its own; or none of them, where one is refused.
--
-- KEYS  for each request: its idempotency key where it has one;
--       for each of its jobs: record, payload, arq's job blob, queue
-- ARGV  wake channel, index of new jobs, what stands before the hash in the key of a recipient's index, how long that is
--       kept from the due time of a job (ms), how long an idempotency key is kept (ms), "1" for all requests or none else
--       "0", number of requests;
--       for each request: "1" if it has an idempotency key else "0", fingerprint, answer, number of jobs;
--       for each job: id, delay (ms), time before which it is not sent (ms) or "" where the delay says that, time to
--       expiry from its due time (ms) or "", time at which it expires (ms) or "", payload, blob, number of hashes of its
--       recipients, hashes, number of record strings that follow, record (field, value, ...)
-- Returns for each request {"accepted"}, {"replayed", answer}, {"reused"}, or {"withheld"} for another's sake.
--
-- A repeated call (its reply was lost) finds its own job ids and changes nothing. Without `allow-oom`, a server out of
-- memory refuses the script as a whole, before its first write.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local k, a = 1, 1
local function key() k = k + 1; return KEYS[k - 1] end
local function arg() a = a + 1; return ARGV[a - 1] end

local wake, new_jobs, recipient, recipient_ms = arg(), arg(), arg(), tonumber(arg())
local kept_ms, together, requests = arg(), arg() == '1', tonumber(arg())

local types = {} -- of each key, before this call and what it has written so far
local function require_type(name, wanted)
    local found = types[name] or redis.call('TYPE', name)['ok']
    types[name] = found
    if found ~= 'none' and found ~= wanted then
        error('postroom: ' .. name .. ' is a ' .. found .. ', not a ' .. wanted)
    end
end

-- First everything is read and checked, so that no error can leave a request half written.
require_type(new_jobs, 'zset')
local plan = {}
for r = 1, requests do
    local request = {jobs = {}}
    local has_key = arg() == '1'
    request.fingerprint, request.answer = arg(), arg()
    local count = tonumber(arg())
    if has_key then
        request.idempotency = key()
        require_type(request.idempotency, 'hash')
    end
    for j = 1, count do
        local job = {id = arg(), delay = tonumber(arg()), send_at = tonumber(arg())}
        job.expires_in, job.expires_at = tonumber(arg()), tonumber(arg())
        job.payload_value, job.blob_value = arg(), arg()
        job.recipients, job.fields = {}, {}
        for h = 1, tonumber(arg()) do
            job.recipients[h] = recipient .. arg()
            require_type(job.recipients[h], 'zset')
        end
        for s = 1, tonumber(arg()) do job.fields[s] = arg() end
        job.record, job.payload, job.blob, job.queue = key(), key(), key(), key()
        require_type(job.record, 'hash')
        require_type(job.queue, 'zset')
        request.jobs[j] = job
    end
    plan[r] = request
end

local function write(job)
    if types[job.record] ~= 'none' then return end
    local due = math.max(now, job.send_at or now + job.delay)
    local expires_at = job.expires_at or (job.expires_in and due + job.expires_in)
    if expires_at then
        table.insert(job.fields, 'expires_at')
        table.insert(job.fields, expires_at)
    end
    redis.call('HSET', job.record, 'created_at', now, 'due_at', due, unpack(job.fields))
    redis.call('MSET', job.payload, job.payload_value, job.blob, job.blob_value)
    redis.call('ZADD', job.queue, due, job.id)
    redis.call('ZADD', new_jobs, now, job.id)
    for _, index in ipairs(job.recipients) do
        redis.call('ZADD', index, now, job.id)
        -- For GT, a new index, which has no end yet, would end later than any other.
        redis.call('PEXPIRE', index, due - now + recipient_ms, types[index] == 'none' and 'NX' or 'GT')
        types[index] = 'zset'
    end
    types[job.record] = 'hash'
end

local verdicts, accepted = {}, false

local function is_reused(request)
    local known = request.idempotency and redis.call('HGET', request.idempotency, 'fingerprint')
    return known and known ~= request.fingerprint
end

if together then
    local any, first = false, {} -- fingerprints of this call's own keys
    for r, request in ipairs(plan) do
        local key = request.idempotency
        local reused = is_reused(request) or (key and first[key] and first[key] ~= request.fingerprint)
        if key and not first[key] then first[key] = request.fingerprint end
        any = any or reused
        verdicts[r] = {reused and 'reused' or 'withheld'}
    end
    if any then return verdicts end
    verdicts = {}
end

for r, request in ipairs(plan) do
    local known = request.idempotency and redis.call('HMGET', request.idempotency, 'fingerprint', 'answer')
    if known and known[1] then
        if known[1] == request.fingerprint then
            verdicts[r] = {'replayed', known[2]}
        else
            verdicts[r] = {'reused'}
        end
    else
        if request.idempotency then
            redis.call('HSET', request.idempotency, 'fingerprint', request.fingerprint, 'answer', request.answer)
            redis.call('PEXPIRE', request.idempotency, kept_ms)
        end
        for _, job in ipairs(request.jobs) do write(job) end
        verdicts[r] = {'accepted'}
        accepted = true
    end
end
if accepted then redis.call('PUBLISH', wake, now) end
return verdicts
