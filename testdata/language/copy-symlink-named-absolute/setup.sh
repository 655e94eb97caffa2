ln -s /real/a link
