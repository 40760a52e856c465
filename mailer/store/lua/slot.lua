#!lua flags=allow-oom
-- Reserves slots at relays that take so many mails a second: one mail each, for all workers together, evenly spaced.
--
-- KEYS  for each mail: next free slot of its relay
-- ARGV  longest wait that anybody may have (us); then for each mail: time between two slots (us), its longest wait (us)
-- Returns for each mail {1 if a slot is reserved, else 0; the time of the next free slot (us); the wait for it (us)}.
--
-- A repeated call (its reply was lost) reserves again; the first slots stay unused, so nothing goes faster. A slot that
-- is further away than anybody can have reserved was given before the server's clock was set back: it is forgotten.

local SLOWER = 100 -- times: what another worker may still take for the time between two slots
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local function slot(key, interval, patience)
    local free = tonumber(redis.call('GET', key) or now)
    if free < now or free - now > ARGV[1] + SLOWER * interval then free = now end
    if free - now > patience then return {0, free, free - now} end
    local after = string.format('%.0f', free + interval)
    redis.call('SET', key, after, 'PX', math.ceil((free + interval - now) / 1000) + 1000)
    return {1, free, free - now}
end

local verdicts = {}
for n = 1, #KEYS do verdicts[n] = slot(KEYS[n], tonumber(ARGV[2 * n]), tonumber(ARGV[2 * n + 1])) end
return verdicts
