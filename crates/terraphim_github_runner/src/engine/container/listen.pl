# Listens where clients look for the daemon, and becomes the daemon when the first one comes. That one waits meanwhile:
# its connection is already made, and the daemon takes it over with the socket (sd_listen_fds(3)).
use strict;
use warnings;
use POSIX ();
use Socket;

my ($path, $group, @daemon) = @ARGV;
# The socket must not close when the daemon's program starts.
$^F = 255;
unlink $path;
socket(my $socket, PF_UNIX, SOCK_STREAM, 0) or die "socket: $!\n";
my $mask = umask 0117;
bind($socket, sockaddr_un($path)) or die "bind $path: $!\n";
umask $mask;
chown 0, (getgrnam $group)[2] // 0, $path or die "chown $path: $!\n";
listen($socket, SOMAXCONN) or die "listen: $!\n";
syswrite STDOUT, "listening\n";

my $bits = '';
vec($bits, fileno $socket, 1) = 1;
select(my $ready = $bits, undef, undef, undef) > 0 or die "select: $!\n";
if (fileno $socket != 3) {
    POSIX::dup2(fileno $socket, 3) or die "dup2: $!\n";
    close $socket;
}
@ENV{'LISTEN_FDS', 'LISTEN_PID'} = (1, $$);
exec @daemon or die "exec $daemon[0]: $!\n";
