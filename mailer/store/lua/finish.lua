#!lua flags=allow-oom
-- Records how a run of a job ended, and moves its status.
--
-- KEYS  record, payload, attempts
-- ARGV  token of this run, attempts counted when it began, new status, statuses it may be reached from ("a,b,"),
--       attempt (JSON) or "", attempts kept, retention of record and of payload (ms, "" while the status is not final),
--       field, value, ...
-- Returns {"finished"}, {"gone"}, or {"stale", status} when another run was there first.
--
-- A repeated call (its reply was lost) finds its own token and changes nothing. Runs under OOM: a mail that was sent must
-- never be forgotten for want of memory.

local record, payload, attempts = KEYS[1], KEYS[2], KEYS[3]
local token, counted, status, from = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local now = redis.call('HMGET', record, 'status', 'attempts', 'token')
if not now[1] then return {'gone'} end
if now[3] == token then return {'finished'} end
if now[2] ~= counted or not string.find(from, now[1] .. ',', 1, true) then return {'stale', now[1]} end

redis.call('HSET', record, 'status', status, 'token', token, unpack(ARGV, 9))
if ARGV[5] ~= '' then
    redis.call('RPUSH', attempts, ARGV[5])
    redis.call('LTRIM', attempts, -tonumber(ARGV[6]), -1)
end
if ARGV[7] ~= '' then
    redis.call('PEXPIRE', record, ARGV[7])
    redis.call('PEXPIRE', attempts, ARGV[7])
    redis.call('PEXPIRE', payload, ARGV[8])
end
return {'finished'}
