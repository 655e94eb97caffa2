#!/bin/bash
# Fetches / from the server and port given, and prints what comes.
exec 3<>"/dev/tcp/$1/$2" || exit 1
printf 'GET / HTTP/1.0\r\nHost: %s\r\n\r\n' "$1" >&3
cat <&3
