use strict;
use warnings;
# Regular expressions, hashes, sort, sprintf, formats, pack, files, local-time arithmetic.
open my $in, '<:encoding(UTF-8)', 'prose.txt' or die "prose.txt: $!";
binmode STDOUT, ':encoding(UTF-8)';
my (%count, %lines);
while (my $line = <$in>) {
    while ($line =~ /(?<word>\p{L}+)/g) {
        $count{lc $+{word}}++;
        $lines{lc $+{word}}{$.} = 1;
    }
}
close $in;
my @top = (sort { $count{$b} <=> $count{$a} or $a cmp $b } keys %count)[0 .. 14];
printf "%-12s %5d %s\n", $_, $count{$_}, join(',', (sort { $a <=> $b } keys %{ $lines{$_} })[0 .. 4]) for @top;
my $text = 'The year 1999 and the year 2024';
(my $next = $text) =~ s/(\d+)/$1 + 1/ge;
print "$next\n", join('|', split /\s+/, $text), "\n", scalar reverse('abc'), "\n";
print join(' ', map { sprintf '%02x', $_ } unpack 'C*', pack 'NnCa4w', 0xdeadbeef, 4660, 7, 'text', 300), "\n";
print join(' ', map { $_ * $_ } grep { $_ % 2 } 1 .. 15), "\n";
my @matrix = map { [ map { $_ * 3 } $_ .. $_ + 2 ] } 1 .. 3;
print join(';', map { join ',', @$_ } @matrix), "\n";
print "nested: $1\n" if '(a(b(c)d)e)' =~ /(\((?:[^()]++|(?1))*\))/;
printf "%.15g %s %s\n", 0.1 + 0.2, 2**53 + 1, 10 / 3;
my @t = gmtime 951_782_400;
printf "%04d-%02d-%02d\n", $t[5] + 1900, $t[4] + 1, $t[3];
my $result = eval { die { code => 42 } };
print "code $@->{code}\n";
eval { my $n = 0; my $x = 1 / $n; };
print $@;
open my $out, '>', 'perl.out' or die;
print $out "line $_\n" for 1 .. 1000;
close $out;
print -s 'perl.out', "\n";
local @ARGV = ('perl.out');
my $last; $last = $_ while <>;
print $last;
warn "a warning\n";
exit 9;
