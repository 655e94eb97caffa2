chmod 0644 d/plain; chmod 0600 d/private; chmod 0755 d/script
mkdir d/sticky d/closed; chmod 1777 d/sticky; chmod 0700 d/closed
