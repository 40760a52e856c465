#!lua flags=allow-oom
-- The point of no return, just before the final dot: whether a mail may go, and what its later copies must have.
--
-- KEYS  for each mail: record, in-progress, frozen, queue it was claimed from
-- ARGV  lease of a run past its journal (ms), statuses from which a mail may go ("a,b,"); then for each mail: id, run,
--       journal mark and recipients (packed), Date (ms), what was fetched (JSON) or ""
-- Returns for each mail "go", "lost" (another run has the job, or it is gone), "expired", or the status it has by now.
--
-- This one check settles every race: with another run, with a control, with the author's time. A repeated call (its
-- reply was lost) finds its own mark: go. A mail that one relay refused after its dot may have another mark, for the
-- next. Runs under OOM: a mail that is half sent must not wait for memory.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lease, open = tonumber(ARGV[1]), ARGV[2]

local function verdict(record, in_progress, frozen, queue, id, run, mark, recipients, date, fetched)
    local known = redis.call('HMGET', record, 'status', 'run', 'expires_at', 'journal', 'recipients_from')
    local status, expires_at = known[1], tonumber(known[3] or '')
    if not status or known[2] ~= run then return 'lost' end
    if known[4] == mark then return 'go' end
    if not string.find(open, status .. ',', 1, true) then return status end
    if expires_at and expires_at <= now then return 'expired' end
    redis.call('SET', in_progress, run, 'PX', lease)
    redis.call('ZADD', queue, 'XX', now + lease + 1, id)
    redis.call('HSET', record, 'journal', mark, 'recipients', recipients, 'dated', date)
    if known[5] then redis.call('HSET', record, 'recipients_from', 'journal') end -- nobody asks the source any more
    if fetched ~= '' then redis.call('SET', frozen, fetched) end
    return 'go'
end

local verdicts = {}
for n = 1, #KEYS / 4 do
    local k, a = 4 * n, 6 * n
    verdicts[n] = verdict(KEYS[k - 3], KEYS[k - 2], KEYS[k - 1], KEYS[k], unpack(ARGV, a - 3, a + 2))
end
return verdicts
