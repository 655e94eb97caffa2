chmod 0600 d/a; chmod 0700 d/script d/sub; chmod 0600 d/sub/b
