<?php
// What a Laravel application does before its code runs: loads classes, and readies the facade.
require 'Illuminate/Http/autoload.php';
require 'GuzzleHttp/autoload.php';
Illuminate\Support\Facades\Http::swap(new Illuminate\Http\Client\Factory());
// The sample is a piece of such an application, as the guide prints it.
eval(file_get_contents($argv[1]));
