# Listens where clients look for the daemon, and becomes the daemon when the first one comes. That one waits meanwhile:
# its connection is already made, and the daemon takes it over with the socket (sd_listen_fds(3)).
# Arguments: the path of the socket, its group, the directory of containerd, then the daemon's program with its own.
use strict;
use warnings;
use POSIX ();
use Socket;

my ($path, $group, $root, @daemon) = @ARGV;
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

# The daemon would start containerd itself and give it 15 seconds, which is not enough for an emulated guest on a busy
# machine. So it is started here, and says itself when it is ready (sd_notify(3)).
my $state = '/run/containerd';
mkdir $state;
open(my $config, '>', "$state/tci.toml") or die "open $state/tci.toml: $!\n";
print $config "version = 2\ndisabled_plugins = ['io.containerd.grpc.v1.cri']\n";
close $config or die "write $state/tci.toml: $!\n";
socket(my $notify, PF_UNIX, SOCK_DGRAM, 0) or die "socket: $!\n";
unlink "$state/ready";
bind($notify, sockaddr_un("$state/ready")) or die "bind $state/ready: $!\n";
local $SIG{CHLD} = sub { die "containerd ended before it was ready\n" };
defined(my $child = fork) or die "fork: $!\n";
if (!$child) {
    close $_ for $socket, $notify;
    $ENV{NOTIFY_SOCKET} = "$state/ready";
    my @options = ('--config', "$state/tci.toml", '--root', $root, '--state', $state, '--log-level', 'warn');
    exec 'containerd', '--address', "$state/containerd.sock", @options or die "exec containerd: $!\n";
}
my $said = '';
until ($said =~ /^READY=1$/m) {
    defined recv($notify, $said, 4096, 0) or die "recv: $!\n";
}
$SIG{CHLD} = 'DEFAULT';
close $notify;

if (fileno $socket != 3) {
    POSIX::dup2(fileno $socket, 3) or die "dup2: $!\n";
    close $socket;
}
@ENV{'LISTEN_FDS', 'LISTEN_PID'} = (1, $$);
exec @daemon or die "exec $daemon[0]: $!\n";
