chmod 0600 a; chmod 0644 b
