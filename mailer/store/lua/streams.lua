#!lua flags=no-writes
-- How much waits in each stream, and for how long.
--
-- KEYS  streams that are paused, quarantine queue, queues of the streams
-- ARGV  what stands before the id in the keys of record and in-progress, longest time for which a run is held (ms), how
--       many entries of a queue are looked at; then the streams' names in the order of their queues
-- Returns {now, for each stream: {time since which it is paused (ms) or "", entries due, entries in all, of these leased,
--       quarantined, due time of the oldest one that is due (ms) or ""}}.
--
-- A run's entry has the end of its lease as its time, so leased ones are among the next to come due: they are looked for
-- there. Where more entries than are looked at come due that soon, some of those leased are counted as to come.

local paused, quarantine, record, in_progress = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
local longest, most = tonumber(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local quarantined = {}
for _, id in ipairs(redis.call('ZRANGE', quarantine, 0, most - 1)) do
    local stream = redis.pcall('HGET', record .. id, 'stream')
    if type(stream) == 'string' then quarantined[stream] = (quarantined[stream] or 0) + 1 end
end

local AT_ONCE = 1000 -- keys of one call: unpack has its limits

local function leased_of(queue)
    local leased = 0
    local soon = redis.call('ZRANGEBYSCORE', queue, '(' .. now, now + longest, 'LIMIT', 0, most)
    for n = 1, #soon do soon[n] = in_progress .. soon[n] end
    for n = 1, #soon, AT_ONCE do
        leased = leased + redis.call('EXISTS', unpack(soon, n, math.min(#soon, n + AT_ONCE - 1)))
    end
    return leased
end

local found = {now}
for q = 3, #KEYS do
    local stream, queue = ARGV[q + 2], KEYS[q]
    local due = redis.call('ZCOUNT', queue, '-inf', now)
    local oldest = due > 0 and redis.call('ZRANGE', queue, 0, 0, 'WITHSCORES')[2] or ''
    found[#found + 1] = {
        redis.call('HGET', paused, stream) or '', due, redis.call('ZCARD', queue), leased_of(queue),
        quarantined[stream] or 0, oldest,
    }
end
return found
