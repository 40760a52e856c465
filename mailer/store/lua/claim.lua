#!lua flags=allow-oom
-- Leases due jobs to a worker, in the order of the queues, and hands over all that it needs to run them.
--
-- KEYS  quarantine queue, queues in their order, quarantine holder, claimed (this worker's last claim)
-- ARGV  worker, number of this claim, lease (ms), jobs wanted, this worker's runs that a quarantined job waits for,
--       record version known here, crashes that quarantine, delay of what is pushed back (ms),
--       what stands before the id in the keys of record, payload, frozen, in-progress and blob
-- Returns {now, next due time or -1, alone, waiting, jobs, newer}: each job {id, queue, blob, record, payload, frozen};
--       alone: the one job is quarantined, nothing may run beside it; waiting: one would be there, once nothing else
--       runs; newer: ids pushed back because a newer version wrote them, or something that is no record is in the way.
--
-- While a job runs its score is the end of its lease, so a dead worker's jobs come due by themselves. A job that comes
-- due with a run that never ended had its worker die: that is a crash, unless the run was past its journal, where it
-- only waited for the relay. A repeated call (its reply was lost) has the same number, and gets the same jobs.
-- The keys of jobs are made here from their ids: no cluster.

local quarantine, holder, claimed = KEYS[1], KEYS[#KEYS - 1], KEYS[#KEYS]
local worker, number, lease, wanted, running = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local version, to_quarantine, pushed_back = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local record, payload, frozen, in_progress, blob = ARGV[9], ARGV[10], ARGV[11], ARGV[12], ARGV[13]
local MOST_PASSED_OVER = 1000
local NUMBER = ' number' -- no id begins with a space

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local run = worker .. '/' .. number
local jobs, newer, passed_over, moved = {}, {}, 0, false

local function text(key)
    local value = redis.pcall('GET', key)
    return type(value) == 'string' and value
end

local function hand_over(id, queue)
    jobs[#jobs + 1] = {id, queue, text(blob .. id), redis.call('HGETALL', record .. id), text(payload .. id),
        text(frozen .. id)}
end

local function hold(id, queue)
    redis.call('SET', in_progress .. id, run, 'PX', lease)
    redis.call('ZADD', queue, now + lease + 1, id)
end

local function take(id, queue, known)
    hold(id, queue)
    if known then
        redis.call('HSET', record .. id, 'run', run)
        redis.call('HINCRBY', record .. id, 'starts', 1)
    end
    redis.call('HSET', claimed, id, queue)
    hand_over(id, queue)
end

-- True where the job left the due part of its queue, false where it has to be passed over.
local function consider(id, queue)
    if redis.call('EXISTS', in_progress .. id) == 1 then return false end
    local known = redis.pcall('HMGET', record .. id, 'v', 'run', 'journal', 'crashes')
    local v, journaled, crashes = tonumber(known[1] or 0), known[3], tonumber(known[4] or 0)
    if known.err or v > version or string.find(id, '[^!-~]') then -- such an id is nobody's that we know
        redis.call('ZADD', queue, now + pushed_back, id)
        newer[#newer + 1] = id
        return true
    end
    if v > 0 and v < version then redis.call('HSET', record .. id, 'v', version) end
    if known[2] and not journaled then
        crashes = crashes + 1
        redis.call('HSET', record .. id, 'crashes', crashes, 'blamed', known[2])
        redis.call('HDEL', record .. id, 'run')
    end
    if crashes >= to_quarantine and not journaled and queue ~= quarantine then
        redis.call('ZREM', queue, id)
        redis.call('ZADD', quarantine, now, id)
        moved = true
    else
        take(id, queue, v > 0)
    end
    return true
end

local function next_due()
    if moved then return now end
    local soonest = passed_over > 0 and now + 100 or -1
    for q = 1, #KEYS - 2 do
        local first = redis.call('ZRANGEBYSCORE', KEYS[q], '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
        local at = tonumber(first[2])
        if at and (soonest < 0 or at < soonest) then soonest = at end
    end
    return math.floor(soonest)
end

local function reply(alone, waiting)
    if #jobs > 0 then redis.call('PEXPIRE', claimed, lease * 10) end
    return {now, next_due(), alone, waiting, jobs, newer}
end

-- Lost replies first: what an earlier call with this number took is handed over again.
if redis.call('HGET', claimed, NUMBER) == number then
    local before = redis.call('HGETALL', claimed)
    local alone = 0
    for i = 1, #before, 2 do
        local id, queue = before[i], before[i + 1]
        local mine = redis.call('HGET', record .. id, 'run') == run or redis.call('GET', in_progress .. id) == run
        if id ~= NUMBER and mine then
            hold(id, queue)
            hand_over(id, queue)
            if queue == quarantine then alone = 1 end
        end
    end
    return reply(alone, 0)
end
redis.call('DEL', claimed)

-- A quarantined job runs alone in its worker, and one worker at a time takes care of them.
local suspects = redis.call('ZRANGEBYSCORE', quarantine, '-inf', now, 'LIMIT', 0, 100)
if #suspects > 0 then
    local held_by = redis.call('GET', holder)
    if not held_by or held_by == worker then
        redis.call('SET', holder, worker, 'PX', lease)
        if running > 0 then return reply(0, 1) end
        for _, id in ipairs(suspects) do
            consider(id, quarantine)
            if #jobs > 0 then
                redis.call('HSET', claimed, NUMBER, number)
                return reply(1, 0)
            end
        end
    end
end

for q = 2, #KEYS - 2 do
    local skip = 0
    while #jobs < wanted and passed_over < MOST_PASSED_OVER do
        local due = redis.call('ZRANGEBYSCORE', KEYS[q], '-inf', now, 'LIMIT', skip, wanted - #jobs)
        if #due == 0 then break end
        for _, id in ipairs(due) do
            if not consider(id, KEYS[q]) then
                skip = skip + 1
                passed_over = passed_over + 1
            end
        end
    end
end
if #jobs > 0 then redis.call('HSET', claimed, NUMBER, number) end
return reply(0, 0)
