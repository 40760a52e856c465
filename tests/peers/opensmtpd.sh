# OpenSMTPD as a relay. Runs inside a private root.
printf 'opensmtpd:x:7001:7001::/var/lib/opensmtpd/empty:/bin/false\nopensmtpq:x:7002:7002::/var/lib/opensmtpd/empty:/bin/false\n' >> /etc/passwd
printf 'mails:x:7003:7003::/peer:/bin/sh\n' >> /etc/passwd
printf 'opensmtpd:x:7001:\nopensmtpq:x:7002:\nmails:x:7003:\n' >> /etc/group
chown mails:mails /peer/mails
chown root /peer/server.pem
chmod 600 /peer/server.pem
chgrp opensmtpq /usr/sbin/smtpctl
chmod g+s /usr/sbin/smtpctl

printf '%s %s\n' "$USERNAME" "$(printf '%s\n' "$PASSWORD" | smtpctl encrypt)" > /etc/credentials

cat > /etc/smtpd.conf << END
pki here cert "/peer/server.pem"
pki here key "/peer/server.pem"
table credentials file:/etc/credentials
smtp max-message-size 10M

filter later phase rcpt-to match rcpt-to { "later@deferred.test" } reject "450 4.2.1 try again later"
listen on 127.0.0.1 port $PORT hostname opensmtpd.test tls pki here filter later
listen on 127.0.0.1 port $SUBMISSION_PORT hostname opensmtpd.test tls-require pki here auth <credentials> filter later
listen on 127.0.0.1 port $SUBMISSIONS_PORT hostname opensmtpd.test smtps pki here auth <credentials> filter later

action deliver maildir "/peer/mails" virtual { "@" = mails }
match from any for rcpt-to "nobody@refused.test" reject
match from any for any action deliver
END
exec smtpd -d
