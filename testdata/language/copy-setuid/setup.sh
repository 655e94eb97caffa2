chmod 4755 d/setuid; chmod 2755 d/setgid
