ln -s a link
ln -s d dlink
