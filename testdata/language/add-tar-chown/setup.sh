mkdir t; echo a >t/a; chmod 0644 t/a; tar --owner=11 --group=22 --numeric-owner -C t -cf a.tar a; rm -r t
