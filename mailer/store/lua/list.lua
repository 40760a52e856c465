#!lua flags=no-writes
-- The newest jobs of some indexes that fit a filter, from a place on.
--
-- KEYS  indexes
-- ARGV  what stands before the id in the keys of record and in-progress, place: time of acceptance (ms) and id of the last
--       job that was looked at, "+inf" and "" to begin with; time before which none was accepted (ms) or "-inf", how many
--       are looked at, how many are wanted, statuses ("a,b,") as they are shown or "" for any; then field, value, ... that
--       the record has to have
-- Returns {now, jobs: each {id, 1 if a worker has it else 0, record}, place to go on from: {time, id} or {} at the end}.
--
-- A job's place never changes, so whoever goes on from the last place sees no job twice and misses none that stayed.

local record, in_progress, place_at, place_id = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local oldest, most, wanted, statuses = ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[8]

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function is_behind(at, id) return place_id == '' or tonumber(at) < tonumber(place_at) or id < place_id end

local found = {}
local function read(index)
    local offset, behind = 0, 0
    while behind <= most do -- one more, to know whether there is more
        local page = redis.call('ZREVRANGEBYSCORE', index, place_at, oldest, 'WITHSCORES', 'LIMIT', offset, most)
        for n = 1, #page, 2 do
            local id, at = page[n], page[n + 1]
            if is_behind(at, id) then
                found[#found + 1] = {tonumber(at), id}
                behind = behind + 1
            end
        end
        if #page < 2 * most then return end
        offset = offset + most
    end
end
for _, index in ipairs(KEYS) do read(index) end
table.sort(found, function(a, b) return a[1] > b[1] or (a[1] == b[1] and a[2] > b[2]) end)

local function shown(status, leased, due_at)
    if status ~= 'pending' then return status end
    if leased == 1 then return 'sending' end
    return tonumber(due_at) > now and 'scheduled' or 'queued'
end

local function fits(id, leased)
    local known = redis.call('HMGET', record .. id, 'status', 'due_at')
    if not known[1] then return false end
    if statuses ~= '' and not string.find(statuses, shown(known[1], leased, known[2]) .. ',', 1, true) then return false end
    for a = 9, #ARGV, 2 do
        if redis.call('HGET', record .. id, ARGV[a]) ~= ARGV[a + 1] then return false end
    end
    return true
end

local jobs, last = {}, nil
for n = 1, math.min(#found, most) do
    if #jobs == wanted then break end
    last = n
    local id = found[n][2]
    local leased = redis.call('EXISTS', in_progress .. id)
    local is_same = n > 1 and found[n - 1][2] == id
    if not is_same and fits(id, leased) then jobs[#jobs + 1] = {id, leased, redis.call('HGETALL', record .. id)} end
end
local place = {}
if last and last < #found then place = {string.format('%.0f', found[last][1]), found[last][2]} end
return {now, jobs, place}
