ln -s d dlink
