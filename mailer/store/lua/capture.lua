#!lua
-- Puts a captured mail into the mailbox, removes those beyond the number kept, and tells whoever waits.
--
-- KEYS  mailbox (sorted set), its counter, the new mail's hash
-- ARGV  channel of arrivals, number of mails kept, the part of a mail's key that stands before its id, id, summary, raw
-- Returns the arrival number.
--
-- A repeated call (its reply was lost) finds its own hash and changes nothing. The keys of removed mails are made here
-- from their ids, so this script does not fit a cluster; nothing of ours does.

local mailbox, counter, mail = KEYS[1], KEYS[2], KEYS[3]
local channel, kept, prefix, id = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]

local known = redis.call('HGET', mail, 'number')
if known then return tonumber(known) end

local time = redis.call('TIME')
local number = redis.call('INCR', counter)
redis.call('HSET', mail, 'number', number, 'received_at', time[1] * 1000 + math.floor(time[2] / 1000),
    'summary', ARGV[5], 'raw', ARGV[6])
redis.call('ZADD', mailbox, number, id)
for _, old in ipairs(redis.call('ZRANGE', mailbox, 0, -kept - 1)) do
    redis.call('DEL', prefix .. old)
    redis.call('ZREM', mailbox, old)
end
redis.call('PUBLISH', channel, number)
return number
