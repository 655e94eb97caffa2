mkdir t; echo a >t/a; chmod 0640 t/a; mkdir t/sub; echo b >t/sub/b; ln -s a t/link; ln t/a t/hard
tar --sort=name --owner=11 --group=22 --numeric-owner --mtime=@1000000000 -C t -cf a.tar a hard link sub
rm -r t
