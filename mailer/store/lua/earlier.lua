#!lua flags=no-writes
-- What was answered to the same request before.
--
-- KEYS  idempotency key
-- ARGV  fingerprint
-- Returns the answer, or nil. Synced like an acceptance, for it tells of one.

local known = redis.call('HMGET', KEYS[1], 'fingerprint', 'answer')
return known[1] == ARGV[1] and known[2]
