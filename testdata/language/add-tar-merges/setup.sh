mkdir -p t/sub; echo new >t/a; echo new >t/sub/new; chmod 0755 t/sub; chmod 0644 t/a t/sub/new
tar --sort=name --owner=0 --group=0 -C t -cf a.tar a sub; rm -r t
