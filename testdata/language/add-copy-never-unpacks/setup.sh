mkdir t; printf '' >t/a; tar --format=ustar --owner=0 --group=0 --mtime=@0 --mode=0644 -C t -cf a.tar a; rm -r t
