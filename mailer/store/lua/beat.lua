#!lua flags=allow-oom
-- A worker's sign of life: extends the leases of its runs, and says which of them it has lost.
--
-- KEYS  health check, quarantine holder, workers that live, claimed (what this one holds); then for each run: record,
--       in-progress, queue
-- ARGV  health text, how long it counts (ms), the worker's lease (ms), the worker, "1" while it takes care of quarantined
--       jobs, else "0"; then for each run: job id, run, its lease (ms)
-- Returns the numbers, in their order from 1, of the runs whose job is another's by now, or gone.
--
-- A lease that ran out while the server was away is taken up again, if nobody else has claimed the job meanwhile.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if ARGV[5] == '1' and redis.call('GET', KEYS[2]) == ARGV[4] then redis.call('PEXPIRE', KEYS[2], ARGV[3]) end
redis.call('ZADD', KEYS[3], now + ARGV[3] + 1, ARGV[4])
redis.call('PEXPIRE', KEYS[4], ARGV[3] * 10)

local lost = {}
for n = 1, (#KEYS - 4) / 3 do
    local record, in_progress, queue = KEYS[3 * n + 2], KEYS[3 * n + 3], KEYS[3 * n + 4]
    local id, run, lease = ARGV[3 * n + 3], ARGV[3 * n + 4], tonumber(ARGV[3 * n + 5])
    if redis.call('HGET', record, 'run') == run or redis.call('GET', in_progress) == run then
        redis.call('SET', in_progress, run, 'PX', lease)
        redis.call('ZADD', queue, 'XX', now + lease + 1, id)
    else
        lost[#lost + 1] = n
    end
end
return lost
