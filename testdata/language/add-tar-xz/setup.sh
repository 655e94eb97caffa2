mkdir t; echo xz >t/a; tar --owner=0 --group=0 -C t -cJf a.tar.xz a; rm -r t
