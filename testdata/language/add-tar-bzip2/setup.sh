mkdir t; echo bzip2 >t/a; tar --owner=0 --group=0 -C t -cjf a.tar.bz2 a; rm -r t
