#!lua flags=allow-oom
-- Leases due jobs to a worker, in the order of the queues, and hands over all that it needs to run them.
--
-- KEYS  quarantine queue, queues in their order, streams that are paused, quarantine holder, workers that live, claimed
--       (what this worker holds, and the number of its last claim)
-- ARGV  worker, number of this claim, lease (ms), jobs wanted, this worker's runs that a quarantined job waits for,
--       "1" where a quarantined job has just had its turn else "0", record version known here, crashes that quarantine,
--       delay of what is pushed back (ms), what stands before the id in the keys of record, payload, frozen,
--       in-progress, blob and claimed, time after which nobody waits for this claim (ms) or "", jobs at most of all queues but the
--       first; then for each queue: its stream, jobs at least of those that are due
-- Returns {now, next due time or -1, alone, waiting, jobs, newer, held back}: each job {id, queue, blob, record, payload,
--       frozen}; alone: the one job is quarantined, nothing may run beside it; waiting: one would be there, once nothing
--       else runs; newer: ids pushed back because a newer version wrote them, or something that is no record is in the
--       way; held back: more are due, and there was room only for those of the first queue.
--
-- While a job runs its score is the end of its lease, so a dead worker's jobs come due by themselves. A job that comes
-- due with a run that never ended had its worker die: that is a crash, unless the run was past its journal, where it
-- only waited for the relay. What a dead worker held takes its old place again, before what came due since. A repeated
-- call (its reply was lost) has the same number, and gets the same jobs. One that
-- the server finds only now that it goes on takes nothing: others must first have time to say that they live.
-- The keys of jobs are made here from their ids: no cluster.

local quarantine, paused_streams, holder = KEYS[1], KEYS[#KEYS - 3], KEYS[#KEYS - 2]
local workers, claimed = KEYS[#KEYS - 1], KEYS[#KEYS]
local FIRST, LAST = 2, #KEYS - 4 -- queues of streams
local worker, number, lease, wanted, running = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local streams_first, version, to_quarantine = ARGV[6] == '1', tonumber(ARGV[7]), tonumber(ARGV[8])
local pushed_back = tonumber(ARGV[9])
local record, payload, frozen, in_progress, blob = ARGV[10], ARGV[11], ARGV[12], ARGV[13], ARGV[14]
local claimed_by, latest, lower_left = ARGV[15], tonumber(ARGV[16]), tonumber(ARGV[17])
local MOST_PASSED_OVER = 1000
local MOST_OCTETS = 2000000 -- of content in one reply: a slow line must bring it within the client's patience. Beyond it
-- a queue that is to have something has one job.
local MOST_REPEATS = 3
local LOOK_AGAIN = 1000 -- ms
local NUMBER, REPEATS = ' number', ' repeats' -- no id begins with a space

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local run = worker .. '/' .. number
local jobs, newer, passed_over, octets, moved = {}, {}, 0, 0, false

local is_paused, some_are_paused = {}, false
for _, stream in ipairs(redis.call('HKEYS', paused_streams)) do is_paused[stream], some_are_paused = true, true end
local function stream_of(q) return ARGV[18 + 2 * (q - FIRST)] end
local function least_of(q) return tonumber(ARGV[19 + 2 * (q - FIRST)]) end

local function count(value) return tonumber(string.match(value or '', '^%d+$') or '') or 0 end

local function text(key)
    local value = redis.pcall('GET', key)
    return type(value) == 'string' and value
end

local function hand_over(id, queue, is_dated)
    local content, fixed = text(payload .. id), is_dated and text(frozen .. id)
    octets = octets + #(content or '') + #(fixed or '')
    jobs[#jobs + 1] = {id, queue, text(blob .. id), redis.call('HGETALL', record .. id), content, fixed}
end

local function leave_due_part(id, queue) redis.call('ZADD', queue, now + lease + 1, id) end

local function is_mine(id)
    if id == NUMBER or id == REPEATS then return false end
    return redis.call('HGET', record .. id, 'run') == run or redis.call('GET', in_progress .. id) == run
end

local last = redis.call('HGET', claimed, NUMBER)
local is_repeated = last == number

local function take(id, queue, is_record, starts, is_dated)
    if #jobs == 0 then
        redis.call('HDEL', claimed, REPEATS)
        redis.call('HSET', claimed, NUMBER, number, id, queue)
        redis.call('PEXPIRE', claimed, lease * 10)
        redis.call('ZADD', workers, now + lease + 1, worker)
    else
        redis.call('HSET', claimed, id, queue)
    end
    leave_due_part(id, queue)
    if is_record then redis.call('HSET', record .. id, 'run', run, 'starts', starts + 1) end
    hand_over(id, queue, is_dated)
end

-- True where the job left the due part of its queue, false where it has to be passed over.
local function consider(id, queue)
    if not redis.call('SET', in_progress .. id, run, 'PX', lease, 'NX') then return false end
    local known = redis.pcall('HMGET', record .. id, 'v', 'run', 'journal', 'crashes', 'starts', 'dated')
    local v, journaled, crashes = count(known[1]), known[3], count(known[4])
    if known.err or v > version or string.find(id, '[^!-~]') then -- such an id is nobody's that we know
        redis.call('DEL', in_progress .. id)
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
        redis.call('DEL', in_progress .. id)
        redis.call('ZREM', queue, id)
        redis.call('ZADD', quarantine, now, id)
        moved = true
    else
        take(id, queue, known[1], count(known[5]), known[6]) -- undated, nothing was ever frozen for it
    end
    return true
end

local function is_full() return #jobs >= wanted or octets > MOST_OCTETS end

local function due_of(q) return is_paused[stream_of(q)] and 0 or redis.call('ZCOUNT', KEYS[q], '-inf', now) end

local function is_held_back()
    if lower_left > 0 or is_full() then return 0 end
    for q = FIRST + 1, LAST do
        if due_of(q) > 0 then return 1 end
    end
    return 0
end

local function reply(alone, waiting)
    local soonest = passed_over > 0 and now + 100 or -1
    for q = 1, LAST do
        local first = redis.call('ZRANGEBYSCORE', KEYS[q], '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
        local at = tonumber(first[2])
        if at and (soonest < 0 or at < soonest) and not (q >= FIRST and is_paused[stream_of(q)]) then soonest = at end
    end
    if moved or octets > MOST_OCTETS then soonest = now end
    return {now, math.floor(soonest), alone, waiting, jobs, newer, is_held_back()}
end

-- Lost replies first: what an earlier call with this number took is handed over again, for a while.
if last and tonumber(number) < tonumber(last) then return reply(0, 0) end -- a call that was overtaken
if is_repeated and redis.call('HINCRBY', claimed, REPEATS, 1) <= MOST_REPEATS then
    local before, alone = redis.call('HGETALL', claimed), 0
    for i = 1, #before, 2 do
        local id, queue = before[i], before[i + 1]
        if is_mine(id) then
            redis.call('SET', in_progress .. id, run, 'PX', lease)
            leave_due_part(id, queue)
            hand_over(id, queue, true)
            if queue == quarantine then alone = 1 end
        end
    end
    return reply(alone, 0)
elseif is_repeated then -- nobody hears it: what it took is left to its lease
    for _, id in ipairs(redis.call('HKEYS', claimed)) do
        if is_mine(id) then redis.call('HDEL', claimed, id) end
    end
end
if wanted == 0 or (latest and now > latest) then return reply(0, 0) end

local function is_of(run_of, name) return run_of and string.sub(run_of, 1, #name + 1) == name .. '/' end

local function bury(dead)
    local held, left = redis.call('HGETALL', claimed_by .. dead), false -- kept: it may yet come back, and repeat a call
    for i = 1, #held, 2 do
        local id, queue = held[i], held[i + 1]
        local known = redis.pcall('HMGET', record .. id, 'run', 'next_attempt_at', 'due_at')
        local due = tonumber(known[2] or '') or tonumber(known[3] or '')
        if due and is_of(known[1], dead) then
            if redis.call('EXISTS', in_progress .. id) == 1 then
                left = true -- past its journal, and held for longer
            else
                redis.call('ZADD', queue, 'XX', 'LT', due, id)
            end
        end
    end
    if left then redis.call('ZADD', workers, now + LOOK_AGAIN, dead) else redis.call('ZREM', workers, dead) end
end

-- Only who lives itself says that another is dead: after an absence of the server each has to be heard first.
if (tonumber(redis.call('ZSCORE', workers, worker) or '') or 0) > now then
    local dead = redis.call('ZRANGEBYSCORE', workers, '-inf', now, 'LIMIT', 0, 1)[1]
    if dead then bury(dead) end
end

local function some_stream_is_due()
    for q = FIRST, LAST do
        if due_of(q) > 0 then return true end
    end
    return false
end

-- A quarantined job runs alone in its worker; one worker at a time takes care of them, in turns with the streams.
local suspects = {}
local looked_at = some_are_paused and MOST_PASSED_OVER or 100
for _, id in ipairs(redis.call('ZRANGEBYSCORE', quarantine, '-inf', now, 'LIMIT', 0, looked_at)) do
    local stream = some_are_paused and redis.pcall('HGET', record .. id, 'stream')
    if not (type(stream) == 'string' and is_paused[stream]) then suspects[#suspects + 1] = id end
end
if #suspects > 0 and not (streams_first and some_stream_is_due()) then
    local held_by = redis.call('GET', holder)
    if not held_by or held_by == worker then
        redis.call('SET', holder, worker, 'PX', lease)
        if running > 0 then return reply(0, 1) end
        for _, id in ipairs(suspects) do
            consider(id, quarantine)
            if #jobs > 0 then return reply(1, 0) end
        end
    end
end

-- In the order of the streams, but for what the lower ones are to have at least.
local function kept_for_lower(than)
    local kept = 0
    for q = than + 1, LAST do
        local least = least_of(q)
        if least > 0 then kept = kept + math.min(least, due_of(q)) end
    end
    return math.min(kept, lower_left)
end

local function take_of(q)
    local skip, room, taken = 0, wanted - #jobs, 0
    if q > FIRST then room = math.min(room, lower_left) end
    local left = room - kept_for_lower(q)
    local function is_over()
        if left <= 0 or passed_over >= MOST_PASSED_OVER then return true end
        return octets > MOST_OCTETS and (taken > 0 or least_of(q) == 0)
    end
    while not is_over() do
        local due = redis.call('ZRANGEBYSCORE', KEYS[q], '-inf', now, 'LIMIT', skip, left)
        if #due == 0 then break end
        for _, id in ipairs(due) do
            if is_over() then break end
            local before = #jobs
            local has_left = consider(id, KEYS[q])
            if not has_left then skip = skip + 1 end
            if #jobs == before then
                passed_over = passed_over + 1
            else
                taken, left = taken + 1, left - 1
                if q > FIRST then lower_left = lower_left - 1 end
            end
        end
    end
end

for q = FIRST, LAST do
    if not is_paused[stream_of(q)] then take_of(q) end
end
return reply(0, 0)
