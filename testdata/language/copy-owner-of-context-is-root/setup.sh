chown 1234:4321 d/a
chmod 0644 d/a
