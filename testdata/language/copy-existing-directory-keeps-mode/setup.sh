chmod 0750 d/sub
chmod 0755 d
