#!lua flags=allow-oom
-- Writes something on this connection, so that WAITAOF after it waits for everything that came before.
--
-- KEYS  synced
-- ARGV  how long that is kept (ms)
--
-- A repeated call finds its own traces and writes nothing: by itself WAITAOF would then have nothing to wait for, though
-- what the first call wrote may not be on disk yet.

redis.call('SET', KEYS[1], '1', 'PX', ARGV[1])
