mkdir t; echo zstd >t/a; tar --owner=0 --group=0 -C t --zstd -cf a.tar.zst a; rm -r t
