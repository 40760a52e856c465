# Exim as a relay. Runs inside a private root.
printf 'Debian-exim:x:7001:7001::/:/bin/false\n' >> /etc/passwd
printf 'Debian-exim:x:7001:\n' >> /etc/group
mkdir -p /var/spool/exim4 /run/exim4
chown Debian-exim:Debian-exim /var/spool/exim4 /run/exim4 /peer /peer/mails /peer/server.pem
chmod u+s /usr/sbin/exim4

cat > /etc/exim4/exim4.conf << END
primary_hostname = exim.test
local_interfaces = 127.0.0.1
daemon_smtp_ports = $PORT : $SUBMISSION_PORT : $SUBMISSIONS_PORT
tls_on_connect_ports = $SUBMISSIONS_PORT
log_file_path = /peer/%slog
log_selector = +smtp_protocol_error +smtp_syntax_error +tls_certificate_verified
host_lookup =
rfc1413_query_timeout = 0s
keep_environment = USERNAME : PASSWORD
message_size_limit = 10M
accept_8bitmime = true
smtputf8_advertise_hosts = *
pipelining_connect_advertise_hosts =
tls_advertise_hosts = *
tls_certificate = /peer/server.pem
tls_privatekey = /peer/server.pem
auth_advertise_hosts = \${if and{ {!eq{\$received_port}{$PORT}} {def:tls_in_cipher} } {*}{}}
acl_smtp_mail = check_mail
acl_smtp_rcpt = check_rcpt
acl_smtp_data = accept
never_users =

begin acl

check_mail:
    deny condition = \${if !eq{\$received_port}{$PORT}}
         !authenticated = *
         message = 530 5.7.0 Authentication required
    accept

check_rcpt:
    deny recipients = nobody@refused.test
         message = 550 5.1.1 no such user
    defer recipients = later@deferred.test
         message = 450 4.2.1 try again later
    accept

begin routers

all:
    driver = accept
    transport = maildir

begin transports

maildir:
    driver = appendfile
    maildir_format
    directory = /peer/mails
    create_directory
    user = Debian-exim
    delivery_date_add
    envelope_to_add
    return_path_add

begin authenticators

PLAIN:
    driver = plaintext
    public_name = PLAIN
    server_advertise_condition = \${if !eq{\$received_port}{$SUBMISSIONS_PORT}}
    server_prompts = :
    server_condition = \${if and{ {eq{\$auth2}{\${env{USERNAME}}}} {eq{\$auth3}{\${env{PASSWORD}}}} }}
    server_set_id = \$auth2

LOGIN:
    driver = plaintext
    public_name = LOGIN
    server_prompts = <| Username: | Password:
    server_condition = \${if and{ {eq{\$auth1}{\${env{USERNAME}}}} {eq{\$auth2}{\${env{PASSWORD}}}} }}
    server_set_id = \$auth1
END
exec exim4 -bdf -q1h
