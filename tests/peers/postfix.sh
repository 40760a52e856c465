# Postfix as a relay. Runs inside a private root.
printf 'postfix:x:7001:7001::/:/bin/false\n' >> /etc/passwd
printf 'postfix:x:7001:\npostdrop:x:7002:\n' >> /etc/group

cat > /etc/postfix/main.cf << END
compatibility_level = 3.6
maillog_file = /dev/stdout
myhostname = postfix.test
mydestination =
alias_maps =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
message_size_limit = 10000000

virtual_mailbox_domains = static:all
virtual_mailbox_maps = static:mails/
virtual_mailbox_base = /peer
virtual_mailbox_limit = 0
virtual_uid_maps = static:7001
virtual_gid_maps = static:7001

smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_recipient_restrictions = check_recipient_access inline:{
    { nobody@refused.test = 550 5.1.1 no such user }, { later@deferred.test = 450 4.2.1 try again later } }
smtpd_tls_security_level = may
smtpd_tls_chain_files = /peer/server.pem
smtpd_tls_auth_only = yes
END

cat > /etc/postfix/master.cf << END
127.0.0.1:$PORT inet n - n - - smtpd
127.0.0.1:$SUBMISSION_PORT inet n - n - - smtpd
    -o smtpd_sasl_auth_enable=yes
    -o smtpd_tls_security_level=encrypt
    -o smtpd_relay_restrictions=permit_sasl_authenticated,reject
127.0.0.1:$SUBMISSIONS_PORT inet n - n - - smtpd
    -o smtpd_sasl_auth_enable=yes
    -o smtpd_sasl_mechanism_filter=login
    -o smtpd_tls_wrappermode=yes
    -o smtpd_relay_restrictions=permit_sasl_authenticated,reject
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
END

mkdir -p /etc/postfix/sasl /var/spool/postfix
printf 'pwcheck_method: auxprop\nauxprop_plugin: sasldb\nmech_list: PLAIN LOGIN\n' > /etc/postfix/sasl/smtpd.conf
printf %s "$PASSWORD" | saslpasswd2 -p -c -u postfix.test "$USERNAME"
chown postfix /etc/sasldb2 /peer/mails /var/lib/postfix
chgrp postdrop /usr/sbin/postqueue /usr/sbin/postdrop
chmod g+s /usr/sbin/postqueue /usr/sbin/postdrop
exec postfix start-fg
