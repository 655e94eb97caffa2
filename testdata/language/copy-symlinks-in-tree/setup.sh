ln -s a d/relative; ln -s /etc/passwd d/absolute; ln -s nowhere d/dangling; ln -s ../outside d/outward
mkdir d/sub; ln -s sub d/to-directory
