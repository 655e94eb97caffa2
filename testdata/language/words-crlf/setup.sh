printf 'FROM busybox\r\nENV a=1 \\\r\n  b=2\r\nCOPY a /x\r\nCMD ["x"]\r\n' >Dockerfile
