mkdir t; echo a >t/a; tar --owner=0 --group=0 -C t -cf a.txt a; rm -r t
echo "no archive" >b.tar
