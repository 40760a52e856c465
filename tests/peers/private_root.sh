#!/bin/sh
# Runs /peer/start in a private root: this machine's files with a package's over them, where all that is written stays in
# memory. It has no users but root and nobody, no spool, and asks no name server. For mount and PID namespaces of its own:
# sh private_root.sh LAYER FOLDER, where FOLDER has `peer`, seen inside as /peer, and an empty `scratch`. The trap: what
# is mounted below / is not in it.
set -eu
mount -t tmpfs -o mode=755 tmpfs "$2/scratch"
cd "$2/scratch"
mkdir upper work root
cp -r --preserve=mode,links "$1/." upper # a copy: a layer must not lie inside another one
mkdir -p upper/peer
mount -t overlay -o lowerdir=/,upperdir=upper,workdir=work overlay root
mount -t tmpfs tmpfs root/var/spool
printf 'root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n' > root/etc/passwd
printf 'root:x:0:\nnogroup:x:65534:\n' > root/etc/group
rm -f root/etc/resolv.conf
echo 'nameserver 127.0.0.1' > root/etc/resolv.conf
echo '127.0.0.1 localhost' > root/etc/hosts
mount --bind "$2/peer" root/peer
mount --rbind /dev root/dev
mount -t proc proc root/proc
chroot root /bin/sh -eu /peer/start &
wait $! # process 1 stays this one: a server that changes its user would survive the death of its parent
