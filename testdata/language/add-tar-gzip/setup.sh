mkdir t; echo gzip >t/a; tar --owner=0 --group=0 -C t -czf a.bin a; rm -r t
