# Postfix as a queue, inside a private root. PHASE=fill takes mails on PORT and delivers none, since nobody manages its
# queue; PHASE=drain delivers them to SINK_PORT. The spool is the arena's folder, so the second finds what the first took.
# What is not named here has Postfix's own default: 20 deliveries to one destination and 100 processes at most.
printf 'postfix:x:7001:7001::/:/bin/false\n' >> /etc/passwd
printf 'postfix:x:7001:\npostdrop:x:7002:\n' >> /etc/group

cat > /etc/postfix/main.cf << END
compatibility_level = 3.6
queue_directory = /peer/spool
maillog_file = /peer/mail.log
maillog_file_prefixes = /peer
myhostname = postfix.test
mydestination =
alias_maps =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
smtpd_relay_restrictions = permit_mynetworks, reject
smtp_dns_support_level = disabled
relayhost = [127.0.0.1]:$SINK_PORT

# TUNING_README: mail comes in as fast as it can, and one destination is delivered to at full speed from the start.
in_flow_delay = 0
initial_destination_concurrency = 20
qmgr_message_active_limit = 50000
# On loopback without TLS a new connection is cheaper than one handed from process to process: 2,200 mails/s, not 1,300.
smtp_connection_cache_on_demand = no
END

cat > /etc/postfix/master.cf << END
cleanup unix n - n - 0 cleanup
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
END
case $PHASE in
    fill) echo "127.0.0.1:$PORT inet n - n - - smtpd" ;;
    drain) echo "qmgr unix n - n 300 1 qmgr" ;;
esac >> /etc/postfix/master.cf

mkdir -p /peer/spool
chown postfix /var/lib/postfix
chgrp postdrop /usr/sbin/postqueue /usr/sbin/postdrop
chmod g+s /usr/sbin/postqueue /usr/sbin/postdrop
exec postfix start-fg
