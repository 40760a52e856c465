#!lua flags=allow-oom
-- Reserves slots at relays that take so many mails a second: one mail each, for all workers together, evenly spaced.
--
-- KEYS  for each mail: next free slot of its relay
-- ARGV  longest wait that anybody may have (us); then for each mail: time between two slots (us), its longest wait (us),
--       the next free slot as its worker knows it (us), 0 where it knows none
-- Returns for each mail {1 if a slot is reserved, else 0; the time of the next free slot (us); the wait for it (us)}.
--
-- A repeated call (its reply was lost) reserves again; the first slots stay unused, so nothing goes faster. A slot that
-- is further away than anybody can have reserved was given before the server's clock was set back: it is forgotten. A
-- server that knows of fewer slots than a worker came back with older data: what others have reserved is not known here.

local SLOWER = 100 -- times: what another worker may still take for the time between two slots
local RESERVED = 5000000 -- us: so far ahead are others' slots, but for some of critical mail
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local function slot(key, interval, patience, known)
    local function possible(at) return at - now <= ARGV[1] + SLOWER * interval and math.max(at, now) or now end
    local free = possible(tonumber(redis.call('GET', key) or now))
    known = possible(known)
    if known > free then free = math.max(known, now + RESERVED) end
    if free - now > patience then return {0, free, free - now} end
    local after = string.format('%.0f', free + interval)
    redis.call('SET', key, after, 'PX', math.ceil((free + interval - now) / 1000) + 1000)
    return {1, free, free - now}
end

local verdicts = {}
for n = 1, #KEYS do
    local a = 3 * n
    verdicts[n] = slot(KEYS[n], tonumber(ARGV[a - 1]), tonumber(ARGV[a]), tonumber(ARGV[a + 1]))
end
return verdicts
