#!lua
-- Whether the server takes writes that need memory, and which data set it holds.
--
-- KEYS  probe, epoch
-- ARGV  new epoch, how long the probe is kept (ms)
-- Returns the data set's epoch. A server that has none (it is new, or came back empty) is given the new one.
--
-- Without `allow-oom`, the script is refused where enqueue.lua would be: out of memory, read-only, failing disk.

redis.call('SET', KEYS[1], '1', 'PX', ARGV[2])
redis.call('SET', KEYS[2], ARGV[1], 'NX')
return redis.call('GET', KEYS[2])
